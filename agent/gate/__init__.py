"""The gate: who asks, whether they may, what is recorded, what is open until when."""
