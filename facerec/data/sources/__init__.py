"""Sets of labelled face crops: record files, folders and tables, single or joined."""

from facerec.data.sources.folder_source import FolderSource
from facerec.data.sources.joined_source import JoinedSource
from facerec.data.sources.list_source import ListSource
from facerec.data.sources.opening import AnySource, open_source
from facerec.data.sources.record_source import RecordSource
from facerec.data.sources.subset import Subset

__all__ = ["AnySource", "FolderSource", "JoinedSource", "ListSource", "RecordSource", "Subset", "open_source"]
