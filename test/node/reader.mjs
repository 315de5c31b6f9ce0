// The provider's real SDK as a reader of a Redis that somebody else has filled. It answers questions, one JSON object a
// line on stdin, with one JSON object a line on stdout, in order, until stdin ends.
//
// Arguments: a JSON object {"host", "port", "db", "api"}: the Redis, and the base URL that stands for the provider's API.
//
// Question: {"prefix", "method", "customerId", "resourceId"?, "featureId"?, "options"?}; method is one of the SDK's
// getBooleanEntitlement, getNumericEntitlement, getMeteredEntitlement, getEnumEntitlement, getEntitlement and
// getEntitlements. Answer: {"answer", "misses", "failures"}: what the SDK returned, how many cache misses it told of, and
// the errors it told of, such as an API that can't be reached.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

const { Stigg, LogLevel } = createRequire(import.meta.url)('@stigg/node-server-sdk');
const { host, port, db = 0, api } = JSON.parse(process.argv[2]);

// connected waits for the Redis. The SDK itself waits for 250 ms and goes on without; a busy machine needs longer.
async function connected(cache) {
  for (const end = Date.now() + 60_000; !cache.isClientConnected() && Date.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

// One SDK for each prefix, as each environment of an application has one.
const clients = new Map();

async function client(prefix) {
  let c = clients.get(prefix);
  if (!c) {
    const stigg = Stigg.initialize({
      apiKey: `e2e-${prefix}`, // the SDK keeps one instance for each key
      baseUri: api,
      baseEdgeUri: api,
      realtimeUpdatesEnabled: false,
      enableRemoteConfig: false,
      // Shorter than the SDK's own back-off, so that it doesn't ask twice.
      entitlementsTimeout: 2000,
      logConfiguration: { logLevel: LogLevel.ERROR }, // to stderr
      redis: { host, port, db, environmentPrefix: prefix },
    });
    c = { stigg, misses: 0, failures: [] };
    stigg.addListener('cacheMiss', () => c.misses++);
    stigg.addListener('networkRequestFailed', ({ errorMessage }) => c.failures.push(errorMessage));
    await stigg.waitForInitialization();
    await connected(stigg.entitlementsService.cacheService);
    clients.set(prefix, c);
  }
  return c;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { prefix, method, customerId, resourceId, featureId, options } = JSON.parse(line);
  const c = await client(prefix);
  c.misses = 0;
  c.failures = [];
  const answer =
    method === 'getEntitlements'
      ? await c.stigg.getEntitlements(customerId, resourceId)
      : await c.stigg[method]({ customerId, resourceId, featureId, options });
  console.log(JSON.stringify({ answer, misses: c.misses, failures: c.failures }));
}
// The SDK's close leaves a Redis connection open, which would keep the process alive.
process.exit(0);
