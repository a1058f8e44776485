"""The small model in a server of its own: its prompts made here, its states scored here, its answers passed on."""
