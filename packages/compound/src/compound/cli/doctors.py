"""Which checks are for which data set: what `doctor` does in full, and `train` in a moment."""

import logging
from typing import TYPE_CHECKING, Any

from compound.cli.networks import detects

if TYPE_CHECKING:
    from compound.doctor.diagnosis import Diagnosis, Options
    from compound.doctor.findings import Finding

log = logging.getLogger(__name__)

# Checks whose findings data modules log themselves.
_TOLD = ("repaired",)


def diagnose(data: Any, module: Any, options: "Options") -> "Diagnosis":
    """Check all of a data set.

    Args:
        data: the data module.
        module: the task's, whose network the data are for.
        options: how thoroughly.
    """
    from backbone.classification import doctor as classifier
    from compound.report.run import samples_section
    from efficientdet.doctor import detector

    if detects(module.model):
        spec = module.model.spec
        found = detector.diagnose(data, spec, options, evaluation=module.evaluation)
    else:
        found = classifier.diagnose(data, options)
    found.sections.append(samples_section(module, data, options.samples))
    return found


def tell_quickly(data: Any, module: Any) -> None:
    """Log what a training should know of its data, in a moment; hints are only counted."""
    from compound.doctor.findings import line, ordered, tally

    try:
        findings = ordered(_check_quickly(data, module))
    except Exception as error:  # whatever it is, the training itself may well run
        log.warning("data: the quick check failed: %s", error)
        return
    for finding in findings:
        if finding.severity != "hint" and finding.check not in _TOLD:
            log.warning("data: %s", line(finding))
    log.info("data: %s at first sight; tools/doctor.py looks closer", tally(findings))


def _check_quickly(data: Any, module: Any) -> "list[Finding]":
    if detects(module.model):
        from efficientdet.doctor import fast_checks as quick

        return quick.check_quickly(data, module.model.spec)
    from backbone.classification import fast_checks as quick

    return quick.check_quickly(data)
