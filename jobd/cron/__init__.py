"""When schedules fire: expressions, zones, clock changes. Pure: time is an argument."""
