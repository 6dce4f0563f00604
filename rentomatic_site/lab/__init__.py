"""What knows both scenarios and rooms: measuring a query on scenarios, capturing real rooms, shrinking."""
