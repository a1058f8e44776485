"""Tables, figures and pages: what a report looks like."""
