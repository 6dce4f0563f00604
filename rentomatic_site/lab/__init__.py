"""What knows both scenarios and rooms: measuring a query on scenarios, and capturing real rooms as one."""
