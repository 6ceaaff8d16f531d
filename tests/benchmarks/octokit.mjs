// GitHub's own library for webhooks on node's HTTP server: verifies, parses, calls a handler, answers.
// Arguments: the port and the secret.
import { createServer } from "node:http";
import { Webhooks, createNodeMiddleware } from "@octokit/webhooks";

const [port, secret] = process.argv.slice(2);
const webhooks = new Webhooks({ secret });
webhooks.on("push", () => {});
createServer(createNodeMiddleware(webhooks, { path: "/hooks/github" })).listen(Number(port), "127.0.0.1");
