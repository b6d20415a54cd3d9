"""The settings of `pyramidion serve`, from its options or from `PYRAMIDION_*` variables. Torch-free.

All processes of a service have the same `Settings`: the first passes them to the others in their environment.
"""

import platform
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from pipelines.base.runtime_choice import RuntimeChoice
from pipelines.tracking.mlflow_store import sqlite_url
from service.addresses import is_loopback
from service.predictor_address import PredictorAddress
from service.settings_runs import RunStorageSettings
from service.settings_variables import Folders, Networks, RayAddress, Words

PREFIX = "PYRAMIDION_"

Seconds = Annotated[float, Field(gt=0, le=1e8)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class Settings(RunStorageSettings):
    """One service: its folders, its resources and its limits. Each field is also `PYRAMIDION_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX)

    root: Path = Field(Path("runs/service"), description="folder of the jobs, the database and the MLflow store")
    host: str = Field("127.0.0.1", description="address of the API; beyond the loopback interface it requires keys")
    port: int = Field(8000, ge=0, le=65535, description="port of the API; 0 for any free port")
    data_roots: Folders = Field((Path(),), description="folders that contain data sets")
    weights_roots: Folders = Field((Path(),), description="folders that contain weights")
    database_url: str | None = Field(
        None, description="database as an SQLAlchemy URL; the default is service.db in the root"
    )
    storage_url: str | None = Field(
        None,
        description="storage of uploaded archives, s3://BUCKET/PREFIX (its endpoint is AWS_ENDPOINT_URL); the default "
        "is a folder in the root",
    )

    executor: str = Field(
        "local", description="executor that runs attempts: local, ray, slurm, or that of another package"
    )
    ray_address: RayAddress = Field(None, description="dashboard of a Ray cluster; by default the service starts Ray")
    cpus: Count | None = Field(None, description="cores that jobs may use in total; the default is all that there are")
    gpus: int | None = Field(
        None, ge=0, description="GPUs that jobs may use in total; the default is all that there are"
    )
    slurm_partition: str | None = Field(
        None, description="partition of the jobs of the executor slurm; the default is the cluster's"
    )
    slurm_account: str | None = Field(None, description="account of the jobs of the executor slurm")
    slurm_options: str | None = Field(
        None, description="further options of sbatch for the executor slurm, as in a shell: `--qos=normal --mem=16G`"
    )
    max_attempts: Count = Field(3, description="number of failed attempts after which a job fails")
    retry_delay_s: Seconds = Field(5.0, description="seconds before the second attempt; doubled for each later one")
    cancel_grace_s: Seconds = Field(8.0, description="seconds that a cancelled attempt has to exit before it is killed")
    poll_s: Seconds = Field(0.2, description="seconds between two rounds of the supervisor")
    lease_s: Annotated[float, Field(ge=0.5, le=3600)] = Field(
        15.0, description="seconds without a sign of life after which another supervisor takes over"
    )
    supervisor_host: str | None = Field(
        None,
        max_length=255,
        description="name of this host in the records of attempts; the default is the host name of the machine",
    )
    hang_timeout_s: Seconds = Field(
        60.0, description="seconds without a sign of life after which a process of the service is killed and restarted"
    )

    trainer_variables: Words = Field(
        (),
        description="further environment variables that trainers and the predictor get; `ABC_*` is a prefix",
    )

    max_json_bytes: Count = Field(1 << 20, description="maximum size of a request's JSON body, or form")
    max_image_bytes: Count = Field(20 << 20, description="maximum size of an uploaded image file")
    max_images: Count = Field(16, description="maximum number of images in one predict request")
    max_images_bytes: Count = Field(64 << 20, description="maximum size of all image files of one predict request")
    max_image_pixels: Count = Field(50_000_000, description="maximum number of pixels of an uploaded image")
    dry_run_timeout_s: Seconds = Field(120.0, description="seconds after which a dry run is stopped")
    compare_timeout_s: Seconds = Field(60.0, description="seconds after which a comparison of jobs is stopped")
    compare_max_bytes: Count = Field(
        256 << 20, description="maximum size of the predictions that a comparison of jobs reads"
    )
    decode_timeout_s: Seconds = Field(
        10.0, description="seconds of processor time after which the decoding of a client's image is stopped"
    )
    decode_memory_bytes: Annotated[int, Field(ge=256 << 20)] = Field(
        4 << 30, description="maximum memory of a process that decodes images of clients"
    )
    decode_slow_images: Count = Field(
        8, description="maximum number of images that take more than a second to decode, besides the others"
    )
    predict_timeout_s: Seconds = Field(60.0, description="seconds after which a prediction is abandoned")
    predict_runtime: RuntimeChoice = Field(
        "auto", description="what computes registered models: auto, torch, torch-bf16, onnxruntime or openvino"
    )
    predict_batch_size: Count = Field(8, description="maximum number of images in a batch of the predictor")
    predict_queue_size: Count = Field(
        64, description="maximum number of predictions in progress; while it is reached, others are rejected"
    )
    predict_models: Count = Field(4, description="maximum number of models that the predictor keeps in memory")
    predict_idle_s: Seconds = Field(
        600.0, description="seconds without a prediction after which the predictor process exits and frees its memory"
    )
    alias_check_s: Seconds = Field(2.0, description="seconds between two checks of a model's alias by the predictor")
    image_upload_timeout_s: Seconds = Field(30.0, description="seconds in which an image must be uploaded completely")
    image_upload_memory_bytes: Count = Field(512 << 20, description="maximum size of all images of predict requests")
    predictor_url: str | None = Field(
        None,
        description="address of a predictor that runs by itself, http://HOST:PORT or unix:/PATH; by default the API "
        "starts one",
    )
    predictor_secret: SecretStr | None = Field(
        None, description="secret that the API sends to a predictor with an address"
    )
    predictor_start_timeout_s: Seconds = Field(
        120.0, description="seconds after which a predictor that has not started is killed"
    )
    predictor_check_s: Seconds = Field(2.0, description="seconds between two health checks of the predictor")
    predictor_check_timeout_s: Seconds = Field(
        10.0, description="seconds after which a health check of the predictor has failed; two failures kill it"
    )

    max_upload_bytes: Count = Field(10 << 30, description="maximum size of an uploaded archive of a data set")
    max_upload_images: Count = Field(10_000, description="maximum number of single images uploaded with a job")
    upload_timeout_s: Seconds = Field(3600.0, description="seconds that the upload of an archive may take")
    uploads: Count = Field(16, description="maximum number of archives that are uploaded at once; others are rejected")
    storage_timeout_s: Seconds = Field(
        20.0, description="seconds without an answer after which a request to the storage is repeated, at most twice"
    )
    dataset_quota_bytes: Count = Field(
        100 << 30, description="maximum size of all data sets of a tenant, archives and extracted files together"
    )
    dataset_max_files: Count = Field(1_000_000, description="maximum number of files in a data set")
    dataset_max_bytes: Count = Field(50 << 30, description="maximum size of the extracted files of a data set")
    dataset_max_file_bytes: Count = Field(4 << 30, description="maximum size of one extracted file")
    dataset_max_ratio: Count = Field(
        100, description="maximum ratio of the extracted files to their archive in bytes, once they exceed 64 MiB"
    )
    dataset_checks: Count = Field(2, description="maximum number of data checks in progress; others wait")
    dataset_check_timeout_s: Seconds = Field(3600.0, description="seconds after which a data check is killed")
    dataset_check_bytes: Count = Field(
        8 << 30, description="maximum address space of the process of a data check, in bytes"
    )

    database_threads: Count = Field(
        8, description="threads that read the database, as many that write to it, and as many that read for streams"
    )
    database_timeout_s: Seconds = Field(
        10.0, description="seconds after which a request stops waiting for the database"
    )
    file_threads: Count = Field(
        8,
        description="threads that read files, and as many each for streams, deletions, checks of submissions, "
        "comparisons, uploads, archives, and checks of data sets",
    )
    file_timeout_s: Seconds = Field(30.0, description="seconds after which a request stops waiting for files")
    registry_threads: Count = Field(4, description="threads that wait for the model registry, MLflow")
    registry_timeout_s: Seconds = Field(15.0, description="seconds after which a request stops waiting for MLflow")
    probe_timeout_s: Seconds = Field(2.0, description="seconds that each check of /readyz and /metrics may take")
    max_waiting: Count = Field(64, description="maximum number of requests that wait for threads of one kind")
    max_event_streams: Count = Field(
        1000, description="maximum number of clients that follow events or logs at the same time"
    )

    request_log: bool = Field(True, description="write a line for each request to the log")
    max_connections: Count = Field(
        4096, description="maximum number of connections; the limit of open files may allow fewer"
    )
    max_connections_per_client: Count = Field(1024, description="maximum number of connections from one address")
    trusted_proxies: Networks = Field(
        (), description="addresses or networks of reverse proxies: they have no such limit and name their clients"
    )
    max_header_bytes: Count = Field(32 << 10, description="maximum size of the headers of a request")
    idle_timeout_s: Seconds = Field(30.0, description="seconds after which a connection without a request is closed")
    header_timeout_s: Seconds = Field(10.0, description="seconds that the headers of a request may take to arrive")
    body_timeout_s: Seconds = Field(
        30.0, description="seconds that a body may take to arrive, plus one for each `min_body_bytes_per_s` received"
    )
    min_body_bytes_per_s: Count = Field(1024, description="minimum speed of a body after `body_timeout_s`")
    write_timeout_s: Seconds = Field(
        60.0, description="seconds after which a client that reads nothing is disconnected"
    )

    allowed_hosts: Words = Field(
        (), description="host names, besides those of the loopback, by which clients reach the API"
    )
    allowed_origins: Words = Field(
        (), description="other origins, such as https://example.org, whose web pages may change something"
    )
    require_keys: bool | None = Field(
        None,
        description="whether each request needs an API key (true or false); by default it does as soon as a key exists",
    )
    key_cache_s: Seconds = Field(2.0, description="seconds after which a revoked key stops working")
    key_requests_per_minute: Count = Field(
        1200, description="requests per minute of a key to one API process, unless the key has its own limit"
    )
    key_queued_jobs: Count = Field(
        1000, description="jobs of a key that may be in the queue, unless the key has its own limit"
    )
    key_storage_bytes: Count = Field(
        100 << 30, description="bytes of the data sets that a key may store, unless the key has its own limit"
    )

    min_free_bytes: Count = Field(
        1 << 30, description="free bytes of the disk of the root below which new jobs and uploads are refused"
    )
    gc_every_s: Seconds = Field(3600.0, description="seconds between two runs of `pyramidion gc` by the supervisor")
    gc_timeout_s: Seconds = Field(1800.0, description="seconds after which a scheduled run of gc is stopped")
    keep_last_checkpoint_s: Seconds = Field(
        7 * 86400.0, description="seconds after which last.ckpt of a job that succeeded is deleted; best.ckpt is kept"
    )
    keep_checkpoints_s: Seconds | None = Field(None, description="seconds to keep all checkpoints of ended jobs")
    keep_checkpoints: CountOrZero | None = Field(None, description="number of ended jobs whose checkpoints are kept")
    keep_checkpoints_bytes: CountOrZero | None = Field(None, description="maximum size of checkpoints of ended jobs")
    keep_jobs_s: Seconds | None = Field(None, description="seconds to keep ended jobs with their run folders")
    keep_jobs: CountOrZero | None = Field(None, description="number of ended jobs that are kept")
    keep_jobs_bytes: CountOrZero | None = Field(None, description="maximum size of the run folders of ended jobs")
    keep_logs_s: Seconds | None = Field(None, description="seconds to keep the logs of ended jobs")
    keep_logs: CountOrZero | None = Field(None, description="number of ended jobs whose logs are kept")
    keep_logs_bytes: CountOrZero | None = Field(None, description="maximum size of the logs of ended jobs")
    keep_events_s: Seconds | None = Field(None, description="seconds to keep the events of ended jobs")
    keep_events: CountOrZero | None = Field(None, description="maximum number of events of ended jobs")
    keep_datasets_s: Seconds | None = Field(None, description="seconds to keep data sets that no job or model needs")
    keep_datasets: CountOrZero | None = Field(None, description="number of unused data sets that are kept")
    keep_datasets_bytes: CountOrZero | None = Field(None, description="maximum size of unused data sets")

    @field_validator("root", "data_roots", "weights_roots", "run_scratch")
    @classmethod
    def _absolute(cls, value: Any) -> Any:
        return tuple(path.resolve() for path in value) if isinstance(value, tuple) else value and value.resolve()

    @field_validator("predictor_url")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        return value if value is None else str(PredictorAddress.parse(value))

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the API."""
        return is_loopback(self.host)

    @property
    def url_of_api(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @cached_property
    def url_of_database(self) -> str:
        return self.database_url or sqlite_url(self.root / "service.db")

    @property
    def address_of_predictor(self) -> PredictorAddress | None:
        return None if self.predictor_url is None else PredictorAddress.parse(self.predictor_url)

    @property
    def secret_of_predictor(self) -> str | None:
        return None if self.predictor_secret is None else self.predictor_secret.get_secret_value()

    @property
    def name_of_host(self) -> str:
        return self.supervisor_host or platform.node()

    @property
    def jobs_dir(self) -> Path:
        return self.root / "jobs"

    @property
    def datasets_dir(self) -> Path:
        return self.root / "datasets"

    @property
    def downloads_dir(self) -> Path:
        """Folder of copies of models that are being downloaded from other storage."""
        return self.root / "downloads"

    def run_dir(self, job_id: str) -> Path:
        """Return the run folder of a job."""
        return self.jobs_dir / job_id
