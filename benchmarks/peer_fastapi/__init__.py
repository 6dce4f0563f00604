"""The peer from FastAPI: asyncpg's pool, pydantic's models, uvicorn."""
