"""The lab under fire (`make torture`): kills, damaged files, hostile commands and answers, worlds, bad folders."""
