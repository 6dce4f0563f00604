// What a user of openapi-typescript and openapi-fetch writes; test_clients.py generates schema.d.ts beside it.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Room = components["schemas"]["ListedRoom"];
type Problem = components["schemas"]["Problem"];

const baseUrl = process.argv[2];
const client = createClient<paths>({ baseUrl });

async function rooms(query: paths["/rooms.json"]["get"]["parameters"]["query"]): Promise<{ rooms: Room[]; link: string }> {
    const { data, response } = await client.GET("/rooms.json", { params: { query } });
    return { rooms: data ?? [], link: response.headers.get("Link") ?? "" };
}

function cursor(link: string, relation: string): string | undefined {
    const url = link.match(new RegExp(`<([^>]*)>; rel="${relation}"`))?.[1];
    const query = url ? new URL(url).searchParams : undefined;
    return query?.get("after") ?? query?.get("before") ?? undefined;
}

const prices = (found: { rooms: Room[] }): (number | undefined)[] => found.rooms.map((room) => room.price);

const first = await rooms({ order: ["-price", "size"], limit: 2 });
const second = await rooms({ order: ["-price", "size"], limit: 2, after: cursor(first.link, "next") });
const again = await rooms({ order: ["-price", "size"], limit: 2, before: cursor(second.link, "prev") });

const refused = await client.GET("/rooms.json", { params: { query: { limit: 2000 } } });
const problem: Problem | undefined = refused.error;

const lines = await client.GET("/rooms.ndjson", { params: { query: { order: ["price"] } }, parseAs: "text" });
const text: string = lines.data ?? "";

console.log(
    JSON.stringify({
        list: prices(await rooms({})),
        filtered: prices(await rooms({ filter_price__lt: 60, order: ["price"] })),
        among: prices(await rooms({ filter_price__in: [39, 66], order: ["price"] })),
        box: prices(await rooms({ bbox: [-0.2, 51.7, 0.1, 51.8] })),
        near: prices(await rooms({ near: [0.3, 51.4], within: 5000 })),
        fields: (await rooms({ fields: ["price"], limit: 1 })).rooms,
        pages: [prices(first), prices(second), prices(again)],
        error: [refused.response.status, problem?.detail, problem?.errors?.[0].hint],
        ndjson: text.trim().split("\n").map((line) => (JSON.parse(line) as Room).price),
    }),
);
