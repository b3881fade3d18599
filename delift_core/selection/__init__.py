"""From utilities and vectors to picks: set functions, optimal transport and controls.

Objectives are reached by name through `delift_core.registry`; nothing here is imported before it is used.
"""
