"""Watches records against a reference: pure statistics, numpy alone, constant memory."""

from keepfit.monitor.check import Report, check
from keepfit.monitor.options import MonitorOptions
from keepfit.monitor.profile import Held, Profile, make_profile
from keepfit.monitor.records import Records

__all__ = ["Held", "MonitorOptions", "Profile", "Records", "Report", "check", "make_profile"]
