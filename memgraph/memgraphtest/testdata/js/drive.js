// Uses the stand-in at the Bolt address given as the first argument as an
// application would, and prints what it saw as one line of JSON.
const neo4j = require('neo4j-driver')

const seen = {}

// attempt notes what became of f: its result, or how the driver classes the error.
async function attempt(name, f) {
  try {
    seen[name] = await f()
  } catch (e) {
    seen[name] = { code: e.code, retriable: e.retriable === true, message: e.message }
  }
}

// first is the first value of the first row.
const first = result => result.records.length ? result.records[0].get(0) : null

async function main(address) {
  const driver = neo4j.driver('bolt://' + address, neo4j.auth.none(), { disableLosslessIntegers: true, maxTransactionRetryTime: 0 })
  const session = driver.session()
  await attempt('agent', async () => (await driver.getServerInfo()).agent)
  await attempt('protocol', async () => (await driver.getServerInfo()).protocolVersion)
  await attempt('auto-commit', async () => first(await session.run('CREATE (n:A {i: $i}) RETURN n.i', { i: 7 })))
  await attempt('managed write', async () => first(await session.executeWrite(tx => tx.run('CREATE (n:B) RETURN labels(n)'))))
  await attempt('managed read', async () => first(await session.executeRead(tx => tx.run('MATCH (n) RETURN count(n)'))))
  await attempt('write in a read', () => session.executeRead(tx => tx.run('CREATE (:C)')))
  await attempt('explicit', async () => {
    const tx = session.beginTransaction()
    await tx.run('CREATE (:D)')
    await tx.run('CREATE (:E)')
    await tx.commit()
    return first(await session.run('MATCH (n) RETURN count(n)'))
  })
  await attempt('rolled back', async () => {
    const tx = session.beginTransaction()
    await tx.run('CREATE (:F)')
    await tx.rollback()
    return first(await session.run('MATCH (n) RETURN count(n)'))
  })
  await attempt('a node', async () => {
    const node = first(await session.run('MATCH (n:A) RETURN n'))
    return { labels: node.labels, properties: node.properties, elementId: node.elementId }
  })
  await attempt('stream', async () => {
    let rows = 0, sum = 0
    for await (const record of session.run('UNWIND range(1, 100000) AS i RETURN i')) {
      rows++
      sum += record.get('i')
    }
    return { rows, sum }
  })
  await attempt('syntax error', () => session.run('garbage'))
  await attempt('replication in a transaction', () => session.executeRead(tx => tx.run('SHOW REPLICATION ROLE')))
  await attempt('conflict', async () => {
    const other = driver.session()
    const tx = session.beginTransaction()
    try {
      await tx.run('MATCH (n:A) SET n.i = 8')
      await other.run('MATCH (n:A) SET n.i = 9')
    } finally {
      await tx.rollback()
      await other.close()
    }
  })
  await session.run('SET REPLICATION ROLE TO REPLICA WITH PORT 0')
  await attempt('write on a replica', () => session.executeWrite(tx => tx.run('CREATE (:G)')))
  await session.close()
  await driver.close()

  const routed = neo4j.driver('neo4j://' + address, neo4j.auth.none(), { maxTransactionRetryTime: 0 })
  await attempt('routing', () => routed.executeQuery('RETURN 1'))
  delete seen.routing.message // it tells the time
  await routed.close()
  console.log(JSON.stringify(seen))
}

main(process.argv[2])
