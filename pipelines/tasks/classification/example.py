"""The part of the program beside an exported graph that makes the answer of a classification task."""

ANSWER = """def classification(task, found, size_hw, scale_xy):
    is_exclusive = MODEL["model"]["tasks"][task]["head"] == "multiclass"
    scores = found["scores"][0].astype(np.float64).clip(1e-12, 1 - 1e-12)
    powers = (scores if is_exclusive else scores / (1 - scores)) ** (1 / MODEL["temperatures"].get(task, 1))
    scores = powers / powers.sum() if is_exclusive else powers / (1 + powers)
    rows = zip(MODEL["categories"][task], scores)
    labels = [{"label": category["name"], "score": float(score)} for category, score in rows]
    return {"labels": sorted(labels, key=lambda row: -row["score"])}
"""
