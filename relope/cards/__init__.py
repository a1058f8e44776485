"""Cards: what is said beside a shared router, bundle or store, as the Hub reads it: README.md."""
