"""The embedded default: five image families, their questions, and a trained tiny MLLM.

Nothing here is downloaded. The images are drawn from a seed, the two checkpoints lie in
``checkpoints/`` and were trained by ``recipes/tiny_vl.py``.
"""
