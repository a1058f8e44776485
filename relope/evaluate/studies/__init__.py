"""The paper's tables and figures, put together from several reports."""
