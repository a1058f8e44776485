"""From scores to a report, a study or a comparison; never with torch."""
