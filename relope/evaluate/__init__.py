"""Statistics and the report: reads Parquet, never imports torch."""
