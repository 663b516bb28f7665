"""What a user starts, from the command line or a dock; each job reports and can be cancelled."""
