"""The part of the program beside an exported graph that makes the answer of a detection task, with NumPy alone."""

NMS_OUTSIDE = """def select(found, spec, size_hw):
    scores = found["scores"].reshape(-1, found["scores"].shape[-1])
    boxes = found["boxes"].reshape(len(scores), -1, 4)
    rows, labels = np.nonzero(scores > spec["score_threshold"])
    scores, boxes = scores[rows, labels], boxes[rows, labels % boxes.shape[1]].clip(0, np.tile(size_hw[::-1], 2))
    areas, kept, sigma = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), [], spec.get("soft_nms_sigma")
    scores = np.where((boxes[:, 2:] > boxes[:, :2]).all(axis=1), scores, 0)
    while len(kept) < spec["max_detections"] and scores.max(initial=0) > spec["score_threshold"]:
        best = scores.argmax()
        kept.append((best, scores[best]))
        sides = np.minimum(boxes[best, 2:], boxes[:, 2:]) - np.maximum(boxes[best, :2], boxes[:, :2])
        shared = np.prod(sides.clip(0), axis=1)
        iou = shared / (areas[best] + areas - shared).clip(1e-9) * (labels == labels[best])
        scores = scores * (np.exp(-(iou**2) / sigma) if sigma else iou <= spec["nms_iou"])
        scores[best] = 0
    rows = [best for best, _ in kept]
    return boxes[rows], np.array([score for _, score in kept]), labels[rows]


"""

NMS_INSIDE = """def select(found, spec, size_hw):
    return found["boxes"], found["scores"], found["labels"]


"""

ANSWER = """def detection(task, found, size_hw, scale_xy):
    boxes, scores, labels = select(found, MODEL["model"]["tasks"][task], size_hw)
    odds_against = (1 / scores.astype(np.float64) - 1) ** (1 / MODEL["temperatures"].get(task, 1))
    names = [category["name"] for category in MODEL["categories"][task]]
    best = {k: x for k, x in MODEL["best_thresholds"].get(task, {}).items() if x is not None}
    default = np.median(list(best.values()) or [0.5])
    rows = []
    for k, score, box in zip(labels, 1 / (1 + odds_against), boxes / np.tile(scale_xy, 2)):
        if score > best.get(names[k], default):
            box_xywh = [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]
            rows.append({"label": names[k], "score": float(score), "bbox_xywh": box_xywh})
    return {"detections": rows}
"""
