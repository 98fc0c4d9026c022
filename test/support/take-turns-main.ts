import { connect, createServer, type Socket } from "node:net";

/**
 * `take-turns-main HOST:PORT HOST:PORT…`: takes connections at the first and passes them on to the others, one after the
 * other. Prints `ready`; ends with SIGTERM.
 */
const [front, ...backs] = process.argv.slice(2).map((text) => {
  const [host = "", port = ""] = text.split(":");
  return { host, port: Number(port) };
});
const sockets = new Set<Socket>();
let turn = 0;

function keep(socket: Socket, other: () => Socket): void {
  sockets.add(socket);
  socket.on("error", () => undefined);
  socket.on("close", () => {
    sockets.delete(socket);
    other().destroySoon();
  });
}

const server = createServer((client) => {
  const back = backs[turn % backs.length];
  turn += 1;
  if (back === undefined) {
    client.destroy();
    return;
  }
  const upstream = connect(back);
  keep(client, () => upstream);
  keep(upstream, () => client);
  client.pipe(upstream).pipe(client);
});
server.listen(front, () => process.stdout.write("ready\n"));
process.once("SIGTERM", () => {
  server.close();
  for (const socket of sockets) socket.destroy();
});
