"""What the tiny benchmark shows: one image family a file, what they draw with, and the words that they are told in."""
