"""The tools around a mapping: trying, testing, drafting, explaining and writing it. Nothing here serves."""
