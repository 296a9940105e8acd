"""What several test files use: started programs and servers, clients, and builders of stored objects."""
