"""How far an output is from the reference, and whether it still decides the same.

Numbers: `range_error`, `sqnr_db`, `cosine`. Decisions, one a task: each takes {output: array} of both sides and the
inputs, and returns one agreement in [0, 1] a batch element (1: the same decision).
"""
import numpy as np

BOX_CONFIDENCE, BOX_NMS_IOU, BOX_MATCH_IOU = 0.2, 0.45, 0.9
TEXT_MAP_THRESHOLD = 0.3  # DB's binarisation threshold
SPEECH_THRESHOLD = NOTE_THRESHOLD = 0.5
CTC_BLANK = 0


# ---- numbers --------------------------------------------------------------------------------------------
def spread(arrays):
    """max - min over all finite values of the arrays; of a constant its magnitude, of zero (or nothing) 1."""
    finite = [np.ravel(a)[np.isfinite(np.ravel(a))].astype(np.float64) for a in arrays]
    finite = [a for a in finite if a.size]
    if not finite:
        return 1.0
    low, high = min(a.min() for a in finite), max(a.max() for a in finite)
    return float(high - low or abs(high) or 1.0)


def range_error(got, want, over):
    """max |got - want| / over, where `over` is the spread of the reference's values. NaN or infinity on one side
    only, or another shape, is infinitely far."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return np.inf
    finite = np.isfinite(want)
    if not np.array_equal(got[~finite], want[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return np.inf
    return float(np.abs(got[finite] - want[finite]).max(initial=0.0) / over)


def signal_and_noise(got, want):
    """(sum want^2, sum (got - want)^2), to be added up over samples before sqnr_db. A broken output (shape, NaN) is
    infinite noise."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape or not np.isfinite(got).all():
        return float(np.square(want).sum()), np.inf
    return float(np.square(want).sum()), float(np.square(got - want).sum())


def sqnr_db(signal, noise):
    """10 log10(signal / noise); infinite when there is no noise, minus infinite when there is no signal."""
    if noise == 0:
        return np.inf
    return float(10 * np.log10(signal / noise)) if signal > 0 and np.isfinite(noise) else -np.inf


def cosine(a, b):
    """Cosine of two vectors; 0 when one of them is zero or not finite."""
    a, b = np.ravel(a).astype(np.float64), np.ravel(b).astype(np.float64)
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms > 0 and np.isfinite(norms) else 0.0


def f1(hits, found, expected):
    """2 hits / (found + expected); 1 when there is nothing to find and nothing found."""
    return 2 * hits / (found + expected) if found + expected else 1.0


def mask_f1(got, want):
    """F1 of two boolean masks of the same shape."""
    return f1(np.logical_and(got, want).sum(), got.sum(), want.sum())


# ---- text -----------------------------------------------------------------------------------------------
def ctc_ids(scores):
    """Greedy CTC of [time, classes]: the best class a step, repeats merged, blanks dropped."""
    best = np.argmax(scores, -1)
    keep = (best != CTC_BLANK) & np.concatenate([[True], best[1:] != best[:-1]])
    return best[keep].tolist()


def edit_distance(a, b):
    """Levenshtein distance of two sequences."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


# ---- boxes ----------------------------------------------------------------------------------------------
def iou(box, boxes):
    """Intersection over union of one x1,y1,x2,y2 box with [n,4] boxes."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    overlap = np.prod(np.clip(high - low, 0, None), 1)
    area = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], 1) - overlap
    return np.where(area > 0, overlap / np.where(area > 0, area, 1), 0.0)


def yolo_boxes(raw):
    """[4 + classes, anchors] (centre x, y, width, height, class scores) -> (boxes [n,4] x1,y1,x2,y2, classes [n],
    scores [n]), best first, after greedy suppression within each class."""
    scores, classes = raw[4:].max(0), raw[4:].argmax(0)
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > BOX_CONFIDENCE]
    centre, size = raw[:2].T, raw[2:4].T
    boxes = np.concatenate([centre - size / 2, centre + size / 2], 1)
    kept = []
    for i in order:
        same = [k for k in kept if classes[k] == classes[i]]
        if not same or iou(boxes[i], boxes[same]).max() <= BOX_NMS_IOU:
            kept.append(i)
    return boxes[kept], classes[kept], scores[kept]


def box_f1(got, want):
    """F1 of two yolo_boxes results: a box counts when an unmatched reference box of its class overlaps enough."""
    free = list(range(len(want[0])))
    hits = 0
    for box, kind in zip(got[0], got[1]):
        match = [k for k in free if want[1][k] == kind]
        if match:
            overlaps = iou(box, want[0][match])
            if overlaps.max() >= BOX_MATCH_IOU:
                hits += 1
                free.remove(match[int(overlaps.argmax())])
    return f1(hits, len(got[0]), len(want[0]))


# ---- decisions ------------------------------------------------------------------------------------------
def only(outputs):
    """The single output of a model that has one."""
    (value,) = outputs.values()
    return value


def classify(got, want, _feeds):
    """Same top-1 class."""
    return (np.argmax(only(got), -1) == np.argmax(only(want), -1)).astype(float).tolist()


def ctc(got, want, _feeds):
    """1 - edit distance / length of the greedy text, at least 0: 1 is the same string."""
    pairs = [(ctc_ids(g), ctc_ids(w)) for g, w in zip(only(got), only(want))]
    return [max(0.0, 1 - edit_distance(g, w) / max(1, len(w))) for g, w in pairs]


def boxes(got, want, _feeds):
    """F1 of the boxes left after suppression."""
    return [box_f1(yolo_boxes(g), yolo_boxes(w)) for g, w in zip(only(got), only(want))]


def text_map(got, want, _feeds):
    """F1 of the binarised probability map."""
    return [mask_f1(g > TEXT_MAP_THRESHOLD, w > TEXT_MAP_THRESHOLD) for g, w in zip(only(got), only(want))]


def speech(got, want, _feeds):
    """Same side of the speech threshold."""
    sides = [np.ravel(x["output"]) > SPEECH_THRESHOLD for x in (got, want)]
    return (sides[0] == sides[1]).astype(float).tolist()


def notes(got, want, _feeds):
    """Mean over the outputs (onsets, notes, pitch contours) of the F1 of what is on."""
    per_output = [[mask_f1(g > NOTE_THRESHOLD, w > NOTE_THRESHOLD) for g, w in zip(got[k], want[k])] for k in want]
    return np.mean(per_output, 0).tolist()


def embed(got, want, feeds):
    """Cosine of the sentence embeddings (mean of the last hidden state under the attention mask)."""
    mask = feeds["attention_mask"][:, :, None].astype(np.float64)
    return [cosine((g * m).sum(0), (w * m).sum(0)) for g, w, m in zip(only(got), only(want), mask)]


DECISIONS = {"classify": classify, "ctc": ctc, "boxes": boxes, "text_map": text_map, "speech": speech,
             "notes": notes, "embed": embed}


def parts(task, outputs):
    """Outputs by part: values of different meaning and size in one array (box coordinates in pixels beside scores in
    0..1) would hide the errors of the small ones."""
    if task != "boxes":
        return dict(outputs)
    raw = only(outputs)
    return {"boxes": raw[:, :4], "scores": raw[:, 4:]}
