"""Pure vocabulary: events, commands, the fold into State, the metric, budgets and the decision rule.

Nothing here touches a file, a clock, a process or a socket, so all of it can be tested from recorded logs.
"""
