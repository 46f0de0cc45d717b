"""People check a judge: what they are asked, and how far both agree."""
