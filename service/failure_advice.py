"""Advice about failed jobs, one sentence for each kind of failure. Torch-free."""

from service.states import FailureKind

ADVICE: dict[FailureKind, str] = {
    FailureKind.CONFIG_INVALID: "Correct the fields of the document that the message names, and submit it again.",
    FailureKind.DATA_INVALID: "Repair the files that the message names, or let the document skip them, and retry.",
    FailureKind.OUT_OF_MEMORY: "Reduce the batch size or the image size, or give the job a machine with more memory.",
    FailureKind.NUMERICS: "Lower the learning rate, or look at the batches in the folder non_finite of the job.",
    FailureKind.DISK_FULL: "Delete jobs that are not needed or let the administrator free space, and then retry.",
    FailureKind.TIMEOUT: "Submit it with a larger timeout_s or fewer epochs; its last checkpoint is kept.",
    FailureKind.KILLED: "Retry it; if it ends in the same way, look for another process or a person that stopped it.",
    FailureKind.INTERNAL: "Read the last lines of the log; if they do not help, report the error with the log.",
}
