// Writes as the provider's SDK does, for each line on stdin: "set CUSTOMER VERSION" a customer's entitlements, "usage CUSTOMER
// VERSION" the usage of a feature. Answers with the customer when it is done.
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
    const [what, customer, version] = line.split(' ');
    if (what === 'set') {
      await cache.setCustomer(customer, entitlements(Number(version)), undefined, Number(version), new Map());
    } else {
      await cache.updateFeatureUsage({ customerId: customer, featureId: 'f', currentUsage: Number(version), timestamp: new Date(Number(version)) });
    }
    console.log(customer);
  }).on('close', () => process.exit(0));
});
