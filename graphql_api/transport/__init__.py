"""GraphQL over HTTP, SSE, multipart and WebSocket; the GraphiQL page; the inbox endpoint."""
