// Writes one node after the other through the gateway with the JavaScript
// driver, and prints what became of each as a line of JSON, until stdin ends.
// Arguments: the gateway's URL, the way (see ways), the number of workers.
const neo4j = require('neo4j-driver')

const [url, way, workers] = process.argv.slice(2)
const query = 'CREATE (n:W {key: $key}) RETURN n.key'
const ways = {
  'managed': (session, key) => session.executeWrite(tx => tx.run(query, { key })),
  'unmanaged': async (session, key) => {
    const tx = session.beginTransaction()
    try {
      await tx.run(query, { key })
      await tx.commit()
    } finally {
      await tx.close().catch(() => {})
    }
  },
  'auto-commit': (session, key) => session.run(query, { key })
}

let ending = false
process.stdin.on('end', () => { ending = true }).resume()

async function work (driver, worker) {
  for (let i = 0; !ending; i++) {
    const key = `${worker}-${i}`
    const session = driver.session()
    const began = process.hrtime.bigint()
    const line = { key }
    try {
      await ways[way](session, key)
    } catch (err) {
      line.code = err.code
      line.error = err.message
      line.retriable = err.retriable === true
    }
    line.ms = Number(process.hrtime.bigint() - began) / 1e6
    console.log(JSON.stringify(line))
    await session.close().catch(() => {})
  }
}

async function main () {
  const driver = neo4j.driver(url, undefined, { maxConnectionPoolSize: Number(workers) })
  await driver.verifyConnectivity()
  await Promise.all([...Array(Number(workers)).keys()].map(w => work(driver, w)))
  await driver.close()
}

main().catch(err => {
  console.error(err)
  process.exit(1)
})
