// kafkajs in the scenario of scripts/clients.py. The protocol is in ../driver.py.
'use strict'
const readline = require('readline')
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const { version } = require('kafkajs/package.json')
const lz4 = require('lz4-napi')
const zstd = require('@bokuweb/zstd-wasm')

// kafkajs has gzip; for the others its users register a package.
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
})
const codecs = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD,
}

const emit = answer => process.stdout.write(JSON.stringify(answer) + '\n')
const kafka = (clientId = 'kafkajs') => new Kafka({ clientId, brokers: [process.argv[2]], logLevel: logLevel.WARN })
const messages = command => command.records.map(([partition, key, value, headers]) =>
  ({ partition, key, value, headers: Object.fromEntries(headers) }))

async function withAdmin(use) {
  const admin = kafka().admin()
  await admin.connect()
  try {
    return await use(admin)
  } finally {
    await admin.disconnect()
  }
}

async function withProducer(options, use) {
  const producer = kafka().producer({ idempotent: true, maxInFlightRequests: 1, ...options })
  await producer.connect()
  try {
    return await use(producer)
  } finally {
    await producer.disconnect()
  }
}

const verbs = {
  create: command => withAdmin(async admin => {
    await admin.createTopics({ topics: [{ topic: command.topic, numPartitions: command.partitions, replicationFactor: 1 }] })
  }),

  produce: command => withProducer({}, async producer => {
    await producer.send({ topic: command.topic, acks: -1, compression: codecs[command.codec], messages: messages(command) })
  }),

  transaction: command => withProducer({ transactionalId: command.id }, async producer => {
    const transaction = await producer.transaction()
    await transaction.send({ topic: command.topic, acks: -1, messages: messages(command) })
    await (command.end === 'commit' ? transaction.commit() : transaction.abort())
  }),

  groups: () => withAdmin(async admin => ({ groups: (await admin.listGroups()).groups.map(group => group.groupId) })),

  describe: command => withAdmin(async admin => {
    const { AssignerProtocol } = require('kafkajs')
    const group = (await admin.describeGroups([command.group])).groups[0]
    const members = {}
    for (const { clientId, memberAssignment } of group.members) {
      const assigned = AssignerProtocol.MemberAssignment.decode(memberAssignment)
      members[clientId] = assigned ? Object.values(assigned.assignment).flat() : []
    }
    return { state: group.state, members }
  }),

  delete_records: command => withAdmin(async admin => {
    await admin.fetchTopicOffsets(command.topic) // The call below wants the metadata of the topic to be there.
    await admin.deleteTopicRecords({
      topic: command.topic, partitions: [{ partition: command.partition, offset: String(command.offset) }],
    })
  }),

  async consume(command, left) {
    const consumer = kafka(command.client_id).consumer({
      groupId: command.group, readUncommitted: !command.read_committed, heartbeatInterval: 500, maxWaitTimeInMs: 100,
    })
    await consumer.connect()
    await consumer.subscribe({ topic: command.topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: true,
      eachBatch: async ({ batch, isRunning, isStale }) => {
        if (batch.isEmpty() || !isRunning() || isStale()) return
        const offset = String(Number(batch.lastOffset()) + 1)
        await consumer.commitOffsets([{ topic: batch.topic, partition: batch.partition, offset }])
        for (const message of batch.messages) {
          const headers = Object.entries(message.headers).map(([name, value]) => [name, value.toString()])
          emit({ record: [batch.partition, Number(message.offset), message.key.toString(), message.value.toString(), headers] })
        }
      },
    })
    await left
    await consumer.disconnect()
  },
}

async function main() {
  await zstd.init()
  emit({
    client: `kafkajs ${version}`, codecs: Object.keys(codecs), protocols: ['classic'],
    can: ['create', 'idempotence', 'commit', 'abort', 'read_committed', 'groups', 'describe', 'delete_records'],
  })
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  for (let line = await lines.next(); !line.done; line = await lines.next()) {
    const command = JSON.parse(line.value)
    try {
      const left = command.do === 'consume' ? lines.next() : undefined
      emit({ done: true, ...await verbs[command.do](command, left) })
      if (left) process.exit(0)
    } catch (error) {
      console.error(error)
      emit({ error: String(error) })
    }
  }
}

main()
