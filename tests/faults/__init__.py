"""What is promised, under faults: real processes are killed, frozen and fed with nonsense while buyers buy."""
