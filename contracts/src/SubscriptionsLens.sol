// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {BlockhostSubscriptions} from "./BlockhostSubscriptions.sol";
import {ISubscriptionsLens} from "./interfaces/ISubscriptionsLens.sol";

/// @title Everything the engine reads from the chain, in one eth_call.
/// @notice Never deployed: call with `data = creationCode || abi.encode(arguments)` and no `to`. The constructor answers
/// with the encoded ISubscriptionsLens.Snapshot where other constructors answer with code. So it works on any chain at once,
/// and all values are of one block. See ISubscriptionsLens for the shapes.
/// @dev The answer passes for code, which EIP-170 limits to 24,576 bytes: 768 words.
contract SubscriptionsLens {
    /// @dev EIP-170, in words.
    uint256 private constant MAX_WORDS = 24_576 / 32;

    /// @dev A Snapshot with empty lists: offset, 10 values, offset and length of each of 5 lists.
    uint256 private constant EMPTY_WORDS = 1 + 10 + 2 * 5;

    /// @dev Leaves room for at least 170 subscriptions.
    uint256 private constant MAX_WATCHED = 500;

    uint256 private constant MAX_PLANS = 64;

    /// @dev Gas that must be left for what comes after the page: 4,915,200 to return the answer (200 per byte of what passes
    /// for code), and encoding it.
    uint256 private constant GAS_TO_ANSWER = 6_000_000;

    /// @dev Most that one subscription of the page takes: two cold words, and memory.
    uint256 private constant GAS_PER_SUBSCRIPTION = 6_000;

    constructor(
        BlockhostSubscriptions subscriptions,
        address nft,
        uint256 cursor,
        uint256 max,
        uint256[] memory watchIds,
        uint256[] memory tokenIds,
        address[] memory wallets
    ) {
        if (address(subscriptions).code.length == 0) {
            revert ISubscriptionsLens.NoContract(address(subscriptions));
        }
        uint256 watched = watchIds.length + tokenIds.length + wallets.length;
        if (watched > MAX_WATCHED) revert ISubscriptionsLens.TooManyWatched(watched, MAX_WATCHED);
        ISubscriptionsLens.Snapshot memory s;
        s.blockNumber = block.number;
        s.timestamp = block.timestamp;
        s.chainId = block.chainid;
        s.balances = _balances(wallets);
        _readSubscriptions(s, subscriptions);
        s.watched = subscriptions.getSubscriptionRecords(watchIds);
        if (nft != address(0)) _readTokens(s, nft, tokenIds);
        uint256 room = MAX_WORDS - EMPTY_WORDS - watched - s.plans.length;
        s.subscriptions = _page(subscriptions, s.subscriptionCount, cursor, max < room ? max : room);
        bytes memory answer = abi.encode(s);
        assembly ("memory-safe") {
            return(add(answer, 32), mload(answer))
        }
    }

    function _balances(address[] memory wallets) private view returns (uint256[] memory balances) {
        balances = new uint256[](wallets.length);
        for (uint256 i = 0; i < wallets.length; i++) {
            balances[i] = wallets[i].balance;
        }
    }

    function _readSubscriptions(ISubscriptionsLens.Snapshot memory s, BlockhostSubscriptions subscriptions)
        private
        view
    {
        s.subscriptionCount = subscriptions.getTotalSubscriptionCount();
        s.planCount = subscriptions.getTotalPlanCount();
        s.owner = subscriptions.owner();
        s.purchasesPaused = subscriptions.purchasesPaused();
        s.plans = new uint256[](s.planCount < MAX_PLANS ? s.planCount : MAX_PLANS);
        for (uint256 i = 0; i < s.plans.length; i++) {
            (, uint256 price, bool active) = subscriptions.getPlan(i + 1);
            uint256 flags = (active ? 1 : 0) | (subscriptions.isPlanRenewable(i + 1) ? 2 : 0);
            s.plans[i] = price | flags << 96;
        }
    }

    /// @dev Generations differ in what they answer; what one does not answer is 0.
    function _readTokens(ISubscriptionsLens.Snapshot memory s, address nft, uint256[] memory tokenIds) private view {
        if (nft.code.length == 0) revert ISubscriptionsLens.NoContract(nft);
        s.nftOwner = address(uint160(_word(nft, abi.encodeWithSignature("owner()"), 0)));
        s.nftMinter = address(uint160(_word(nft, abi.encodeWithSignature("minter()"), 0)));
        s.tokenCount = _word(nft, abi.encodeWithSignature("totalSupply()"), 0);
        s.tokens = new uint256[](tokenIds.length);
        for (uint256 i = 0; i < tokenIds.length; i++) {
            uint256 owner = _word(nft, abi.encodeWithSignature("ownerOf(uint256)", tokenIds[i]), 0);
            if (owner == 0) continue;
            // The fourth of (userEncrypted, publicSecret, issuedAt, expiresAt).
            uint256 expiresAt = _word(nft, abi.encodeWithSignature("getAccessData(uint256)", tokenIds[i]), 3);
            if (expiresAt > type(uint40).max) expiresAt = type(uint40).max;
            s.tokens[i] = uint256(uint160(owner)) | expiresAt << 160;
        }
    }

    /// @dev Word `index` of what `target` answers; 0 if it reverts or answers less.
    function _word(address target, bytes memory question, uint256 index) private view returns (uint256) {
        (bool ok, bytes memory answer) = target.staticcall(question);
        if (!ok || answer.length < 32 * (index + 1)) return 0;
        uint256 word;
        assembly ("memory-safe") {
            word := mload(add(answer, mul(32, add(index, 1))))
        }
        return word;
    }

    /// @dev The subscriptions after `cursor`: at most `max`, and no more than the gas is enough for.
    function _page(BlockhostSubscriptions subscriptions, uint256 count, uint256 cursor, uint256 max)
        private
        view
        returns (uint256[] memory)
    {
        uint256 length = cursor < count ? count - cursor : 0;
        if (length > max) length = max;
        uint256 needed = GAS_TO_ANSWER + GAS_PER_SUBSCRIPTION;
        if (length != 0 && gasleft() < needed) revert ISubscriptionsLens.NotEnoughGas(gasleft(), needed);
        uint256 affordable = gasleft() < needed ? 0 : (gasleft() - GAS_TO_ANSWER) / GAS_PER_SUBSCRIPTION;
        uint256[] memory ids = new uint256[](length < affordable ? length : affordable);
        for (uint256 i = 0; i < ids.length; i++) {
            ids[i] = cursor + 1 + i;
        }
        return subscriptions.getSubscriptionRecords(ids);
    }
}
