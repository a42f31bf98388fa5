"""Whether boxes belong to pictures as they are stored or as viewers turn them (EXIF)."""

from compound.doctor.files import Looks
from compound.doctor.findings import Finding, Severity
from efficientdet.data.index import AnnotationIndex
from efficientdet.doctor.lists import picture_name

# Orientations from here on swap width and height.
SIDEWAYS = 5
_TURN = "mogrify -auto-orient turns them for good, exiftool -Orientation= removes the note"
_LOOK = f"look which of both was annotated; {_TURN}"
_NOTHING = "nothing need be done"


def orientation_findings(split: str, index: AnnotationIndex, looks: Looks) -> list[Finding]:
    """Return what is to be known of pictures that viewers turn.

    They are read as they are stored, as in COCO. Of those that lie on their side the annotated
    size says which of the two was annotated.

    Args:
        split: its name.
        index: the split.
        looks: what was seen of its pictures.
    """
    sideways, stored, unknown = [], [], []
    for row, orientation in looks.turned.items():
        width, height = index.sizes[row].tolist()
        told = orientation >= SIDEWAYS and width != height
        if told and _other_size(looks.problems.get(row, "")):
            sideways.append(row)
        elif row not in looks.problems:
            (stored if told else unknown).append(row)
    findings = []
    kinds: list[tuple[Severity, list[int], str, str]] = [
        ("error", sideways, "are annotated as viewers turn them, not as they are stored", _TURN),
        ("warning", unknown, "are turned by viewers, and read as they are stored", _LOOK),
        ("hint", stored, "are turned by viewers, but annotated as they are stored", _NOTHING),
    ]
    for severity, rows, text, advice in kinds:
        if rows:
            places = [picture_name(index, row) for row in rows]
            text = f"{split}: {len(rows)} pictures {text} (EXIF)"
            findings.append(Finding(severity, "turned", text, advice, places))
    return findings


def _other_size(problem: str) -> bool:
    """Return whether a picture was refused for its size, see `open_picture`."""
    return "its annotation says" in problem
