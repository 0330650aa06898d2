"""Where ops run. A backend executes one op on arrays (eager) and binds a lowered program's launches
(compiled).
"""
