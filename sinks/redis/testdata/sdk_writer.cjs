// Writes customers as the provider's SDK does: one for each line "customer version" on stdin; answers "customer" when done.
const [sdk, port, prefix] = process.argv.slice(2);
const { RedisCacheService } = require(sdk + '/dist/services/cache/redisCacheService.js');

const silent = { error() {}, log() {}, debug() {}, warn() {} };
const untracked = new Proxy({}, { get: () => () => {} });
const redis = { host: '127.0.0.1', port: Number(port), environmentPrefix: prefix, ttl: 3600, distributedEntitlementsFetching: { disabled: true } };
const cache = new RedisCacheService({ redis, entitlementsTimeout: 1000 }, silent, untracked);

const entitlements = version => new Map([['f', { calculatedEntitlement: { feature: { id: 'f', featureType: 'BOOLEAN' }, version } }]]);

cache.waitForInitialization().then(() => {
  console.log('ready');
  require('readline').createInterface({ input: process.stdin }).on('line', async line => {
    const [customer, version] = line.split(' ');
    await cache.setCustomer(customer, entitlements(Number(version)), undefined, Number(version), new Map());
    console.log(customer);
  }).on('close', () => process.exit(0));
});
