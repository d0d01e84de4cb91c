// Parses statements with MySQL 8's grammar; see dev/check-mysql8. A file *.sql holds statements
// that end in `;`. A file *.log is a general query log of MariaDB: of it, what was prepared or
// queried by others than root counts, each text once.
'use strict'
const fs = require('fs')
const readline = require('readline')
const { default: Parser } = require('ts-mysql-parser')

const parser = new Parser({ version: '8.0.19' })

// What the grammar lets pass, and a MySQL 8.4 server refuses.
const refused = [
  [/\b(uca1400|utf8mb4_\w*nopad)\w*/i, 'a collation of MariaDB'],
  [/\bENGINE\s*=?\s*(?!InnoDB\b)\w+/i, 'a storage engine other than InnoDB'],
  [/\b(TEXT|BLOB|JSON)\b[^,()]*\bDEFAULT\s+(?!NULL\b|\(|CHARSET\b)/i, 'a literal as the default of TEXT, BLOB or JSON'],
  [/\bON\s+DUPLICATE\s+KEY\s+UPDATE\b.*\bVALUE\s*\(/is, 'VALUE(), which is VALUES() on MySQL'],
  [/\b(?:IN|ANY|ALL)\s*\(\s*SELECT\b[^()]*\bLIMIT\b/i, 'LIMIT in a subquery of IN'],
  [/(?<![`.\w])(MANUAL|PARALLEL|QUALIFY|TABLESAMPLE|INTERSECT)(?![`.\w])/i, 'a word that 8.4 reserves'],
  [/\b(NEXTVAL|LASTVAL|SETVAL|SFORMAT|JSON_DETAILED|JSON_LOOSE|JSON_COMPACT|JSON_EQUALS|NATURAL_SORT_KEY|CRC32C|DECODE_ORACLE|NVL2?|ADD_MONTHS|TO_CHAR|PERCENTILE_CONT|PERCENTILE_DISC|MEDIAN|COLUMN_CREATE|COLUMN_GET|KDF|CHR)\s*\(/i, 'a function of MariaDB'],
]

// Text without its comments, and with empty strings for the words in quotes.
const bare = (text) =>
  text.replace(/'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"/g, "''").replace(/--\s.*$|#.*$|\/\*[^]*?\*\//gm, ' ')

// Why a statement is not MySQL 8's, or null.
function fault(text) {
  if (/\/\*M?!/.test(text)) return 'a comment that only some servers carry out'
  const result = parser.parse(text)
  const error = result.lexerError || result.parserError
  if (error) return error.message
  const found = refused.find(([pattern]) => pattern.test(bare(text)))
  return found ? found[1] : null
}

// A list of many rows or values reads as one of two.
const shortened = (text) =>
  text
    .replace(/(\((?:\s*[^()'"]*?)\))(\s*,\s*\1){2,}/g, '$1, $1')
    .replace(/(\?\s*,\s*)\1{3,}/g, '$1$1')

async function logged(file, add) {
  const head = /^(?:\d{6}\s+[\d:]+)?\s+(\d+)\s([A-Z][A-Za-z ]+)\t(.*)$/
  const roots = new Set()
  let entry = null
  const end = () => entry && add(entry)
  for await (const line of readline.createInterface({ input: fs.createReadStream(file) })) {
    const match = head.exec(line)
    if (!match) {
      if (entry) entry += '\n' + line
      continue
    }
    const [, connection, kind, text] = match
    end()
    if (kind === 'Connect' && text.startsWith('root@')) roots.add(connection)
    entry = (kind === 'Prepare' || kind === 'Query') && !roots.has(connection) ? text : null
  }
  end()
}

async function check(file) {
  const texts = new Set()
  const add = (text) => {
    const statement = shortened(text.trim())
    if (bare(statement).trim()) texts.add(statement)
  }
  if (file.endsWith('.log')) {
    await logged(file, add)
  } else {
    parser.splitStatements(fs.readFileSync(file, 'utf8')).forEach((statement) => add(statement.text))
  }
  let faults = 0
  for (const text of texts) {
    const why = fault(text)
    if (why) {
      faults += 1
      console.error(`${file}: not MySQL 8: ${why}\n    ${text.slice(0, 600).replace(/\n/g, '\n    ')}`)
    }
  }
  console.log(`${file}: ${texts.size - faults} of ${texts.size} statements are MySQL 8's`)
  return faults === 0 && texts.size > 0
}

async function main() {
  // A check that can't fail shows nothing.
  for (const text of ['DELETE FROM t WHERE a = ? RETURNING a', 'ALTER TABLE t ADD COLUMN IF NOT EXISTS a INT']) {
    if (!fault(text)) throw new Error(`the parser takes ${text}`)
  }
  const passed = []
  for (const file of process.argv.slice(2)) passed.push(await check(file))
  process.exitCode = passed.every(Boolean) ? 0 : 1
}

main()
