"""The OpenAI Realtime API's WebSocket, translated to the service's own sessions."""
