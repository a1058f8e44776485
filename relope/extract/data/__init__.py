"""From rows to samples: data sets, own files, images, captions, prompts."""
