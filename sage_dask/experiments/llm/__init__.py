"""What the way to a model server costs and keeps: measured on one that imitates timing, and real.

Run it with ``make bench-llm``; ``LLM=part`` runs only that part.
"""
