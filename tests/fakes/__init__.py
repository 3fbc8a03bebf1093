"""What tests share: stand-ins that behave as the real thing does, and fail on command.

Import them as `from tests.fakes.NAME import ...`.  Each keeps the contract of what it stands for
and says which of its faults a test can ask for.
"""
