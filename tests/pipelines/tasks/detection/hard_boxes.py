"""Boxes with all the cases that evaluations of detections disagree on."""

import numpy as np

SIDES = (32.0, 96.0, 31.999999, 32.000001, 95.999999, 96.000001, 10.0, 5.5, 120.0, 200.0, 0.5)


def nasty_fixture(seed, num_images=24, num_categories=5):
    """Crowd, empty images on both sides, ties within and over images, more than 100 detections of one class in one
    image, areas exactly at and beside 32**2 and 96**2, categories without ground truth or without detections, areas
    that are not width * height, ids that are large, 0, unsorted and with gaps, identical and zero-size boxes."""
    rng = np.random.default_rng(seed)
    image_ids = [int(i) for i in rng.choice(10**6, num_images - 3, replace=False) + 1] + [0, 2**40, 2**53 - 1]
    category_ids = [int(i) for i in rng.permutation([0, 7, 90, 2**31 + 5, 3])[:num_categories]]
    rng.shuffle(image_ids)
    annotations, results = [], []

    def box():
        side = float(rng.choice(SIDES))
        height = side if rng.random() < 0.6 else float(rng.choice(SIDES))
        return [float(np.round(rng.uniform(0, 300), 2)), float(np.round(rng.uniform(0, 300), 2)), side, height]

    for position, image_id in enumerate(image_ids):
        truths = [] if position % 6 == 0 else [box() for _ in range(rng.integers(1, 14))]
        for bbox in truths:
            category = category_ids[int(rng.integers(0, num_categories - 1))]  # the last one never has ground truth
            is_crowd = int(rng.random() < 0.15)
            area = bbox[2] * bbox[3] * (float(rng.choice([1.0, 1.0, 0.5, 1.7])))
            annotations.append(
                {"id": int(10**9 + rng.integers(10**9)) * 100 + len(annotations), "image_id": image_id, "bbox": bbox}
                | {"category_id": category, "area": area, "iscrowd": is_crowd}
            )
            # several detections of one object, more or less near; none at all in some images
            for _ in range(int(rng.integers(0, 4)) if position % 6 != 1 else 0):
                near = (np.array(bbox) + rng.normal(0, 3, 4) * (rng.random() < 0.8)).tolist()
                near[2:] = [max(near[2], 0.0), max(near[3], 0.0)]
                guess = category if rng.random() < 0.85 else category_ids[int(rng.integers(0, num_categories))]
                if guess != category_ids[0]:  # the first one never has detections
                    results.append({"image_id": image_id, "category_id": guess, "bbox": near})
        if position % 6 != 1:
            for _ in range(130 if position % 6 == 2 else int(rng.integers(0, 6))):
                results.append({"image_id": image_id, "category_id": category_ids[1], "bbox": box()})
    for row in results:
        row["score"] = float(np.round(rng.random(), 1))  # ten levels: most scores tie
    order = rng.permutation(len(results))
    return {
        "info": {},
        "images": [{"id": i, "file_name": f"{i}.png", "width": 500, "height": 500} for i in image_ids],
        "annotations": [annotations[i] for i in rng.permutation(len(annotations))],
        "categories": [{"id": i, "name": f"class {i}"} for i in category_ids],
    }, [results[i] for i in order]
