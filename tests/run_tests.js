// Runs named tests one after the other; a failure is printed and makes the exit code 1.
'use strict';

async function runTests(tests, limitMs) {
  let failures = 0;
  for (const [name, test] of Object.entries(tests)) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error('it takes too long')), limitMs);
    });
    try {
      await Promise.race([test(), late]);
    } catch (error) {
      console.log(`FAILED: ${name}: ${error.stack}`);
      failures++;
    }
    clearTimeout(timer);
  }
  process.exit(failures ? 1 : 0);
}

module.exports = { runTests };
