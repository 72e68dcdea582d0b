"""The watcher of `fleet work`: small, since it stays for as long as its workers do."""
