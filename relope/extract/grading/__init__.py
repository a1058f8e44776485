"""What graders share: letters, text, LaTeX and values."""
