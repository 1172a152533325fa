"""Sets of labelled face crops: record files, folders and tables, alone or several as one."""

from facerec.data.sources.opening import AnySource, open_source
from facerec.data.sources.record_source import RecordSource
from facerec.data.sources.subset import Subset

__all__ = ["AnySource", "RecordSource", "Subset", "open_source"]
