"""`uvicorn peer_fastapi.app:app`; asyncpg takes the database from PGHOST, PGDATABASE and so on."""

import csv
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal
from uuid import UUID

import asyncpg
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

COLUMNS = "code, size, price, latitude, longitude"
EXPORT_BATCH = 1000  # rooms in memory at a time


class Room(BaseModel):
    code: UUID
    size: int | None
    price: int
    latitude: float
    longitude: float


class Search(BaseModel):
    """The query parameters of the list."""

    price_gt: int | None = None
    price_lt: int | None = None
    size_gt: int | None = None
    size_lt: int | None = None
    order: Literal["id", "size", "price"] = "id"
    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0)

    def where(self) -> tuple[str, list[int]]:
        """The WHERE clause and its values, for the bounds that are set."""
        bounds = {
            "price >": self.price_gt,
            "price <": self.price_lt,
            "size >": self.size_gt,
            "size <": self.size_lt,
        }
        set_bounds = {condition: value for condition, value in bounds.items() if value is not None}
        conditions = [f"{condition} ${number}" for number, condition in enumerate(set_bounds, start=1)]
        return " AND ".join(conditions) or "true", list(set_bounds.values())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool() as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


def database(request: Request) -> asyncpg.Pool:
    return request.app.state.pool


Database = Annotated[asyncpg.Pool, Depends(database)]


@app.get("/rooms", response_model=list[Room])
async def list_rooms(search: Annotated[Search, Query()], pool: Database):
    where, values = search.where()
    query = (
        f"SELECT {COLUMNS} FROM room WHERE {where} "  # noqa: S608 - constants and placeholders
        f"ORDER BY {search.order}, id LIMIT ${len(values) + 1} OFFSET ${len(values) + 2}"
    )
    return [dict(row) for row in await pool.fetch(query, *values, search.limit, search.offset)]


@app.get("/nearest", response_model=list[Room])
async def list_nearest(longitude: float, latitude: float, pool: Database):
    query = (
        f"SELECT {COLUMNS} FROM room "  # noqa: S608 - a constant
        "ORDER BY asin(sqrt(sin(radians(latitude - $2) / 2) ^ 2 + cos(radians(latitude)) * cos(radians($2))"
        " * sin(radians(longitude - $1) / 2) ^ 2)), id LIMIT 100"
    )
    return [dict(row) for row in await pool.fetch(query, longitude, latitude)]


@app.get("/rooms.csv")
async def export_rooms(search: Annotated[Search, Query()], pool: Database):
    return StreamingResponse(lines(search, pool), media_type="text/csv")


async def lines(search: Search, pool: asyncpg.Pool) -> AsyncIterator[str]:
    where, values = search.where()
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS.split(", "))
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        query = f"SELECT {COLUMNS} FROM room WHERE {where} ORDER BY id"  # noqa: S608 - constants and placeholders
        cursor = await connection.cursor(query, *values)
        while rows := await cursor.fetch(EXPORT_BATCH):
            table.writerows(rows)
            yield text.getvalue()
            text.seek(0)
            text.truncate()


@app.get("/rooms/{code}", response_model=Room)
async def one_room(code: UUID, pool: Database):
    row = await pool.fetchrow(f"SELECT {COLUMNS} FROM room WHERE code = $1", code)  # noqa: S608 - a constant
    if row is None:
        raise HTTPException(404, "No room has this code")
    return dict(row)
