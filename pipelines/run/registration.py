"""Registration of the model of a run, and its promotion to champion."""

import json

from pipelines.base.errors import RegistryError
from pipelines.base.ranks import print_rank_zero
from pipelines.evaluation.metric_names import selection
from pipelines.run.attempt import Attempt
from pipelines.run.val_scores import ValScores
from pipelines.run_folder.schemas import Registration
from pipelines.tracking.model_owners import claim_name, tenant_of_run
from pipelines.tracking.promotion import promote_if_better
from pipelines.tracking.registry import Registry


def register(attempt: Attempt) -> None:
    """Register the exported model as `tracking.register_as`, on rank 0, after the other ranks have ended.

    Problems of MLflow are reported as warnings; they do not fail the run.
    """
    tracking = attempt.job.tracking
    if tracking is None or tracking.register_as is None or attempt.tracker is None:
        return
    attempt.start_stage("registering")
    attempt.tracker.flush()
    if attempt.tracker.run_id is None:
        attempt.warn("MLflow does not respond, so the model is not registered; run the same command again to register")
        return
    select = selection(attempt.job.model)
    fingerprint = attempt.report.fingerprints["val"]
    registry = Registry(attempt.tracker.store)
    val_scores = ValScores(attempt, registry.download_exported)
    try:
        if (tenant := tenant_of_run()) is not None:
            claim_name(registry, tracking.register_as, tenant)
        version = registry.register(
            attempt.run_dir.model,
            name=tracking.register_as,
            run_id=attempt.tracker.run_id,
            metrics=json.loads(attempt.run_dir.result.read_text())["val"]["summary"],
            select=select,
            val_fingerprint=fingerprint,
        )
        attempt.stop.check("before the model was compared with the champion")
        promotion = promote_if_better(
            registry,
            version,
            select=select,
            val_fingerprint=fingerprint,
            score=val_scores.metric,
            by=f"run {attempt.tracker.run_id}",
            promote_if=tracking.promote_if,
            interval=val_scores.interval,
        )
    except RegistryError as error:
        attempt.warn(f"the model is not registered: {error}; run the same command again to register it")
        return
    record = promotion.record(tracking.promote_if, select.metric)
    Registration(name=version.name, version=version.version, promotion=record).write(attempt.run_dir.registration)
    alias = "champion" if promotion.is_promoted else "candidate"
    why = promotion.explanation(select.metric)
    print_rank_zero(f"registered as {version.uri} ({alias})" + (f": {why}" if why else ""))
