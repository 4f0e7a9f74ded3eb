"""Why two recurrent layers or networks that should be equal are not: where they first differ, who is wrong, and what mends it."""

from rnn_common.doctor.calls import Call, Seen
from rnn_common.doctor.diagnosis import diagnose
from rnn_common.doctor.report import Cause, Report
from rnn_common.doctor.sides import Side, of_function
from rnn_common.doctor.training import Trained, diagnose_training

__all__ = ["Call", "Cause", "Report", "Seen", "Side", "Trained", "diagnose", "diagnose_training", "of_function"]
