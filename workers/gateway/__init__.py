"""Calls to outside services, within the limits of their accounts and the budgets of runs."""
